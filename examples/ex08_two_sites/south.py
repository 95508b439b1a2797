"""Handles orders until it is stopped."""

import bus as sites

sites.south().client.run_forever()
