"""What is written into the cluster around the gates: verdicts that outlive their pods, restarts."""
