"""From raw video to frozen features."""
