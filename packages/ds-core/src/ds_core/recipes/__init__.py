"""What ds-core trains: a perceptron, networks of linear layers for classes and for numbers."""
