"""What runs come to together: statistics over seeds and tasks, and the limit of Appendix D."""
