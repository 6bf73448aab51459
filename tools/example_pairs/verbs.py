"""The verbs of the parallel sentences, side by side, and their forms that no rule gives.

`+` joins an English verb to its particle, `~` a German one to the prefix that stands apart.
"""

from example_pairs.lexicon import rows

# base past | German infinitive participle | French | Spanish | objects; other forms are below
VERBS = """
buy bought | kaufen gekauft | acheter | comprar | t n
sell sold | verkaufen verkauft | vendre | vender | t n
see saw | sehen gesehen | voir | ver | t n m
find found | finden gefunden | trouver | encontrar | t n m
lose lost | verlieren verloren | perdre | perder | t
bring brought | bringen gebracht | apporter | traer | t
take took | nehmen genommen | prendre | tomar | t
look+for | suchen gesucht | chercher | buscar | t n m
hide hid | verstecken versteckt | cacher | esconder | t
forget forgot | vergessen vergessen | oublier | olvidar | t
draw drew | zeichnen gezeichnet | dessiner | dibujar | t n m
open | öffnen geöffnet | ouvrir | abrir | o
close | schließen geschlossen | fermer | cerrar | o
read read | lesen gelesen | lire | leer | r
wash | waschen gewaschen | laver | lavar | w
repair | reparieren repariert | réparer | reparar | p
turn+on | ein~schalten eingeschaltet | allumer | encender | l
turn+off | aus~schalten ausgeschaltet | éteindre | apagar | l
know knew | kennen gekannt | connaître | conocer | m
greet | grüßen gegrüßt | saluer | saludar | m
invite | ein~laden eingeladen | inviter | invitar | m
call | an~rufen angerufen | appeler | llamar | m
eat ate | essen gegessen | manger | comer | e
"""
DRINK = "drink drank | trinken getrunken | boire | beber | drink"
GIVING = """
give gave | geben gegeben | donner | dar
show | zeigen gezeigt | montrer | mostrar
send sent | schicken geschickt | envoyer | enviar
"""
ACTIVITIES = """
sleep slept | schlafen geschlafen | dormir | dormir
work | arbeiten gearbeitet | travailler | trabajar
play | spielen gespielt | jouer | jugar
sing sang | singen gesungen | chanter | cantar
dance | tanzen getanzt | danser | bailar
wait | warten gewartet | attendre | esperar
study | lernen gelernt | étudier | estudiar
cry | weinen geweint | pleurer | llorar
"""
# the past with German sein and French être
MOTION = """
go went | gehen gegangen | aller | ir
come came | kommen gekommen | venir | venir
return | zurück~kehren zurückgekehrt | retourner | volver
"""
# what a clause with that follows
SAYING = """
know knew | wissen gewusst | savoir | saber
say said | sagen gesagt | dire | decir
believe | glauben geglaubt | croire | creer
"""
OTHERS = """
have had | haben gehabt | avoir | tener
be was | sein gewesen | être | ser
stay was | sein gewesen | être | estar
want | wollen gewollt | vouloir | querer
can | können gekonnt | pouvoir | poder
must | müssen gemusst | devoir | deber
"""

# German is the imperative of du, French and Spanish likewise
COMMANDS = """
buy | kauf | achète | compra
sell | verkauf | vends | vende
find | finde | trouve | encuentra
bring | bring | apporte | trae
take | nimm | prends | toma
look+for | such | cherche | busca
hide | versteck | cache | esconde
draw | zeichne | dessine | dibuja
open | öffne | ouvre | abre
close | schließ | ferme | cierra
read | lies | lis | lee
wash | wasch | lave | lava
repair | repariere | répare | repara
turn+on | schalte | allume | enciende
turn+off | schalte | éteins | apaga
invite | lade | invite | invita
call | ruf | appelle | llama
"""

PERSONS = 5  # I, you (singular), he or she, we, they
# German: infinitive, du, er, ich; French: the five persons and the participle; Spanish: the five persons in the present
# and in the preterite, or the stem that is stressed
CONJUGATED = {
    "de": """
sehen siehst sieht | nehmen nimmst nimmt | vergessen vergisst vergisst | lesen liest liest | geben gibst gibt
waschen wäschst wäscht | laden lädst lädt | essen isst isst | schlafen schläfst schläft | laufen läufst läuft
wissen weißt weiß weiß | haben hast hat | wollen willst will will | können kannst kann kann | müssen musst muss muss
schließen schließt schließt | grüßen grüßt grüßt | tanzen tanzt tanzt
""",
    "fr": """
acheter achète achètes achète achetons achètent acheté | appeler appelle appelles appelle appelons appellent appelé
vendre vends vends vend vendons vendent vendu | voir vois vois voit voyons voient vu
perdre perds perds perd perdons perdent perdu | prendre prends prends prend prenons prennent pris
ouvrir ouvre ouvres ouvre ouvrons ouvrent ouvert | lire lis lis lit lisons lisent lu
éteindre éteins éteins éteint éteignons éteignent éteint
connaître connais connais connaît connaissons connaissent connu | manger mange manges mange mangeons mangent mangé
boire bois bois boit buvons boivent bu | envoyer envoie envoies envoie envoyons envoient envoyé
dormir dors dors dort dormons dorment dormi | attendre attends attends attend attendons attendent attendu
aller vais vas va allons vont allé | venir viens viens vient venons viennent venu
savoir sais sais sait savons savent su | dire dis dis dit disons disent dit
croire crois crois croit croyons croient cru
avoir ai as a avons ont eu | être suis es est sommes sont été | vouloir veux veux veut voulons veulent voulu
pouvoir peux peux peut pouvons peuvent pu | devoir dois dois doit devons doivent dû
""",
    "es": """
ver veo ves ve vemos ven vi viste vio vimos vieron
traer traigo traes trae traemos traen traje trajiste trajo trajimos trajeron
leer leo lees lee leemos leen leí leíste leyó leímos leyeron
conocer conozco conoces conoce conocemos conocen conocí conociste conoció conocimos conocieron
venir vengo vienes viene venimos vienen vine viniste vino vinimos vinieron
dar doy das da damos dan di diste dio dimos dieron | ir voy vas va vamos van fui fuiste fue fuimos fueron
dormir duermo duermes duerme dormimos duermen dormí dormiste durmió dormimos durmieron
saber sé sabes sabe sabemos saben supe supiste supo supimos supieron
decir digo dices dice decimos dicen dije dijiste dijo dijimos dijeron
creer creo crees cree creemos creen creí creíste creyó creímos creyeron
tener tengo tienes tiene tenemos tienen tuve tuviste tuvo tuvimos tuvieron | ser soy eres es somos son
estar estoy estás está estamos están | querer quiero quieres quiere queremos quieren
poder puedo puedes puede podemos pueden
encontrar encuentr | perder pierd | cerrar cierr | encender enciend | mostrar muestr | enviar enví
jugar jueg | volver vuelv
""",
}
FORMS = {
    language: {verb: forms for row in rows(table) for verb, *forms in row} for language, table in CONJUGATED.items()
}
