"""What a network and a code must do, as test suites to inherit (they need pytest)."""
