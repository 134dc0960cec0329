"""The ensemble of MACE models: members, training, prediction, foundation models."""
