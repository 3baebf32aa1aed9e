"""What people and CI read: terminal summary, guidance, JUnit, HTML."""
