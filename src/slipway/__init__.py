"""The slipway command: a thin layer over ansible-runner and the slipway.cluster collection."""
