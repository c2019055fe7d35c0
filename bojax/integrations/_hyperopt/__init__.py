"""What `bojax.integrations.hyperopt` is made of: expressions, priors, spaces, trials and the loop."""
