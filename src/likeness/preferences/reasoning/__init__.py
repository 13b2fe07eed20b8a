"""Judges that write before they decide: questions, what is read from answers, and rewards to train such a judge."""
