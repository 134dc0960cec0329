"""Labels: their store, their validation, and the queues and workers that compute them."""
