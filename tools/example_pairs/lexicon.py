"""The words of the parallel sentences, English | German | French | Spanish side by side.

An English word stands for one word of each other language, and the other way about, as far as one class of words goes:
what a sentence means in another language is then never a matter of choice. How words are inflected stands in
words.py, verbs in verbs.py, what is said with them in grammars.py.
"""

from collections.abc import Iterator


def rows(table: str) -> Iterator[list[list[str]]]:
    """The rows of a table, each as its columns, each column as its words."""
    for line in table.strip().splitlines():
        yield [column.split() for column in line.split("|")]


# singular plural | German with gender | French with gender | Spanish with gender | what can be done with it:
# t have, buy, find ...; r read; o open; w wash; l turn on; e eat; p repair; h holds things; s things lie on it
# A Spanish word without a plural, and a French or English one, makes it by rule.
THINGS = """
book | Buch n Bücher | livre m | libro m | t r o
letter | Brief m Briefe | lettre f | carta f | t r o
newspaper | Zeitung f Zeitungen | journal m journaux | periódico m | t r
photo | Foto n Fotos | photo f | foto f | t
table | Tisch m Tische | table f | mesa f | t p s
chair | Stuhl m Stühle | chaise f | silla f | t p s
bed | Bett n Betten | lit m | cama f | t p s
lamp | Lampe f Lampen | lampe f | lámpara f | t l p
door | Tür f Türen | porte f | puerta f | o p
window | Fenster n Fenster | fenêtre f | ventana f | o p w
key | Schlüssel m Schlüssel | clé f | llave f | t
bag | Tasche f Taschen | sac m | bolsa f | t o h
box | Kiste f Kisten | boîte f | caja f | t o h s
bottle | Flasche f Flaschen | bouteille f | botella f | t o w
glass | Glas n Gläser | verre m | vaso m | t w
cup | Tasse f Tassen | tasse f | taza f | t w
plate | Teller m Teller | assiette f | plato m | t w
knife knives | Messer n Messer | couteau m couteaux | cuchillo m | t w
car | Auto n Autos | voiture f | coche m | t p w h
bicycle | Fahrrad n Fahrräder | vélo m | bicicleta f | t p w
boat | Boot n Boote | bateau m bateaux | barco m | t p h
ticket | Fahrkarte f Fahrkarten | billet m | billete m | t
phone | Telefon n Telefone | téléphone m | teléfono m | t l p
computer | Computer m Computer | ordinateur m | ordenador m | t l p
clock | Uhr f Uhren | horloge f | reloj m | t p
coat | Mantel m Mäntel | manteau m manteaux | abrigo m | t w
dress | Kleid n Kleider | robe f | vestido m | t w
shirt | Hemd n Hemden | chemise f | camisa f | t w
hat | Hut m Hüte | chapeau m chapeaux | sombrero m | t
shoe | Schuh m Schuhe | chaussure f | zapato m | t w
umbrella | Regenschirm m Regenschirme | parapluie m | paraguas m paraguas | t
apple | Apfel m Äpfel | pomme f | manzana f | t e w
orange | Orange f Orangen | orange f | naranja f | t e
egg | Ei n Eier | œuf m | huevo m | t e
cake | Kuchen m Kuchen | gâteau m gâteaux | pastel m | t e
flower | Blume f Blumen | fleur f | flor f | t
gift | Geschenk n Geschenke | cadeau m cadeaux | regalo m | t o
map | Landkarte f Landkarten | carte f | mapa m | t r
ball | Ball m Bälle | ballon m | pelota f | t
guitar | Gitarre f Gitarren | guitare f | guitarra f | t p
pencil | Bleistift m Bleistifte | crayon m | lápiz m lápices | t
notebook | Heft n Hefte | cahier m | cuaderno m | t o r
"""

ANIMALS = """
dog | Hund m Hunde | chien m | perro m
cat | Katze f Katzen | chat m | gato m
horse | Pferd n Pferde | cheval m chevaux | caballo m
bird | Vogel m Vögel | oiseau m oiseaux | pájaro m
cow | Kuh f Kühe | vache f | vaca f
rabbit | Kaninchen n Kaninchen | lapin m | conejo m
"""

# German with its genitive in the fourth place; one in -n has it in all cases but the nominative
PEOPLE = """
man men | Mann m Männer Mannes | homme m | hombre m
woman women | Frau f Frauen Frau | femme f | mujer f
boy | Junge m Jungen Jungen | garçon m | chico m
girl | Mädchen n Mädchen Mädchens | fille f | chica f
child children | Kind n Kinder Kindes | enfant m | niño m
mother | Mutter f Mütter Mutter | mère f | madre f
father | Vater m Väter Vaters | père m | padre m
brother | Bruder m Brüder Bruders | frère m | hermano m
sister | Schwester f Schwestern Schwester | sœur f | hermana f
friend | Freund m Freunde Freundes | ami m | amigo m
neighbour | Nachbar m Nachbarn Nachbarn | voisin m | vecino m
teacher | Lehrer m Lehrer Lehrers | professeur m | profesor m profesores
doctor | Arzt m Ärzte Arztes | médecin m | médico m
nurse | Krankenschwester f Krankenschwestern Krankenschwester | infirmière f | enfermera f
pupil | Schüler m Schüler Schülers | élève m | alumno m
baker | Bäcker m Bäcker Bäckers | boulanger m | panadero m
cook | Koch m Köche Kochs | cuisinier m | cocinero m
driver | Fahrer m Fahrer Fahrers | chauffeur m | conductor m
aunt | Tante f Tanten Tante | tante f | tía f
uncle | Onkel m Onkel Onkels | oncle m | tío m
grandmother | Großmutter f Großmütter Großmutter | grand-mère f grands-mères | abuela f
grandfather | Großvater m Großväter Großvaters | grand-père m grands-pères | abuelo m
"""
SINGLE = ["mother", "father", "grandmother", "grandfather"]  # the Spanish plurals are parents and grandparents
RELATIVES = [
    "mother",
    "father",
    "brother",
    "sister",
    "friend",
    "neighbour",
    "aunt",
    "uncle",
    "grandmother",
    "grandfather",
    "teacher",
    "doctor",
]
PROFESSIONS = ["teacher", "doctor", "baker", "cook", "driver"]
NAMES = {"Anna": "f", "Clara": "f", "Emma": "f", "Laura": "f", "Daniel": "m", "David": "m", "Martin": "m", "Paul": "m"}

# with the preposition of being there and of going there after each language's word (English: to; Spanish: en, a)
PLACES = """
school in | Schule f Schulen in in | école f à à | escuela f
station at | Bahnhof m Bahnhöfe an zu | gare f à à | estación f
market at | Markt m Märkte auf auf | marché m à à | mercado m
park in | Park m Parks in in | parc m dans à | parque m
garden in | Garten m Gärten in in | jardin m dans dans | jardín m
kitchen in | Küche f Küchen in in | cuisine f dans dans | cocina f
museum in | Museum n Museen in in | musée m à à | museo m
library in | Bibliothek f Bibliotheken in in | bibliothèque f à à | biblioteca f
hospital in | Krankenhaus n Krankenhäuser in in | hôpital m à à | hospital m
church in | Kirche f Kirchen in in | église f dans à | iglesia f
theatre in | Theater n Theater in in | théâtre m à à | teatro m
restaurant in | Restaurant n Restaurants in in | restaurant m à à | restaurante m
office in | Büro n Büros in in | bureau m dans à | oficina f
village in | Dorf n Dörfer in in | village m dans à | pueblo m
beach at | Strand m Strände an an | plage f à à | playa f
lake at | See m Seen an an | lac m à à | lago m
hotel in | Hotel n Hotels in in | hôtel m à à | hotel m
forest in | Wald m Wälder in in | forêt f dans dans | bosque m
cinema in | Kino n Kinos in in | cinéma m à à | cine m
farm on | Bauernhof m Bauernhöfe auf auf | ferme f à à | granja f
"""
ROOMS = [
    "school",
    "park",
    "garden",
    "kitchen",
    "museum",
    "library",
    "hospital",
    "church",
    "hotel",
    "office",
    "village",
    "forest",
]

# no plural; Spanish agua takes the article el; what is done with it
SUBSTANCES = """
bread | Brot n | pain m | pan m | eat
cheese | Käse m | fromage m | queso m | eat
rice | Reis m | riz m | arroz m | eat
meat | Fleisch n | viande f | carne f | eat
soup | Suppe f | soupe f | sopa f | eat
salad | Salat m | salade f | ensalada f | eat
chocolate | Schokolade f | chocolat m | chocolate m | eat
honey | Honig m | miel m | miel f | eat
butter | Butter f | beurre m | mantequilla f | eat
water | Wasser n | eau f | agua f | drink
milk | Milch f | lait m | leche f | drink
coffee | Kaffee m | café m | café m | drink
tea | Tee m | thé m | té m | drink
wine | Wein m | vin m | vino m | drink
juice | Saft m | jus m | zumo m | drink
"""

# English | German with comparative | French, both genders (! before the noun) | Spanish (feminine by rule) | of what
ADJECTIVES = """
big bigger | groß größer | grand grande ! | grande | t n
small smaller | klein kleiner | petit petite ! | pequeño | t n
new newer | neu neuer | neuf neuve | nuevo | t
old older | alt älter | vieux vieille ! | viejo | t p n
beautiful | schön schöner | beau belle ! | bonito | t n
expensive | teuer teurer | cher chère | caro | t
heavy heavier | schwer schwerer | lourd lourde | pesado | t
clean cleaner | sauber sauberer | propre propre | limpio | w
dirty dirtier | schmutzig schmutziger | sale sale | sucio | w
red redder | rot röter | rouge rouge | rojo | c
blue bluer | blau blauer | bleu bleue | azul | c
green greener | grün grüner | vert verte | verde | c
yellow yellower | gelb gelber | jaune jaune | amarillo | c
white whiter | weiß weißer | blanc blanche | blanco | c n
black blacker | schwarz schwärzer | noir noire | negro | c n
young younger | jung jünger | jeune jeune ! | joven | p
rich richer | reich reicher | riche riche | rico | p
strong stronger | stark stärker | fort forte | fuerte | p n
famous | berühmt berühmter | célèbre célèbre | famoso | p
clever cleverer | klug klüger | intelligent intelligente | inteligente | p n
fast faster | schnell schneller | rapide rapide | rápido | n
tired | müde müder | fatigué fatiguée | cansado | q
ill | krank kranker | malade malade | enfermo | q
sad sadder | traurig trauriger | triste triste | triste | q
"""
TRANSIENT = ["clean", "dirty", "tired", "ill", "sad"]  # Spanish estar

# English | German | French | Spanish
PRESENT_TIMES = """
every day | jeden Tag | tous les jours | todos los días
every week | jede Woche | toutes les semaines | todas las semanas
every month | jeden Monat | tous les mois | todos los meses
every morning | jeden Morgen | tous les matins | todas las mañanas
every evening | jeden Abend | tous les soirs | todas las noches
every afternoon | jeden Nachmittag | tous les après-midi | todas las tardes
in summer | im Sommer | en été | en verano
in winter | im Winter | en hiver | en invierno
"""
PAST_TIMES = """
yesterday | gestern | hier | ayer
last week | letzte Woche | la semaine dernière | la semana pasada
last month | letzten Monat | le mois dernier | el mes pasado
last year | letztes Jahr | l'année dernière | el año pasado
last summer | letzten Sommer | l'été dernier | el verano pasado
last winter | letzten Winter | l'hiver dernier | el invierno pasado
"""
FUTURE_TIMES = """
tomorrow | morgen | demain | mañana
next week | nächste Woche | la semaine prochaine | la próxima semana
next month | nächsten Monat | le mois prochain | el próximo mes
next year | nächstes Jahr | l'année prochaine | el próximo año
today | heute | aujourd'hui | hoy
this evening | heute Abend | ce soir | esta noche
"""
DAYS = """
Monday | Montag | lundi | lunes
Tuesday | Dienstag | mardi | martes
Wednesday | Mittwoch | mercredi | miércoles
Thursday | Donnerstag | jeudi | jueves
Friday | Freitag | vendredi | viernes
Saturday | Samstag | samedi | sábado
Sunday | Sonntag | dimanche | domingo
"""
SPANS = """
days | Tagen | jours | días
weeks | Wochen | semaines | semanas
months | Monaten | mois | meses
years | Jahren | ans | años
hours | Stunden | heures | horas
"""
RELATIONS = """
in | in | dans | en | h
on | auf | sur | sobre | s
under | unter | sous | debajo de | s
behind | hinter | derrière | detrás de | h s
in front of | vor | devant | delante de | h s
next to | neben | à côté de | al lado de | h s
"""
CONJUNCTIONS = """
because | , weil | parce que | porque
when | , wenn | quand | cuando
while | , während | pendant que | mientras
"""
EVENTS = """
the meeting | das Treffen | la réunion | la reunión
the exam | die Prüfung | l'examen | el examen
the concert | das Konzert | le concert | el concierto
the party | das Fest | la fête | la fiesta
the wedding | die Hochzeit | le mariage | la boda
the trip | die Reise | le voyage | el viaje
the lesson | der Unterricht | le cours | la clase
"""
# with a clock time: what follows it in German
DEPARTURES = """
the train leaves | der Zug fährt ab | le train part | el tren sale
the bus leaves | der Bus fährt ab | le bus part | el autobús sale
the train arrives | der Zug kommt an | le train arrive | el tren llega
the bus arrives | der Bus kommt an | le bus arrive | el autobús llega
the film begins | der Film beginnt | le film commence | la película empieza
the concert begins | das Konzert beginnt | le concert commence | el concierto empieza
the lesson begins | der Unterricht beginnt | le cours commence | la clase empieza
the shop opens | das Geschäft öffnet | le magasin ouvre | la tienda abre
the museum closes | das Museum schließt | le musée ferme | el museo cierra
"""
