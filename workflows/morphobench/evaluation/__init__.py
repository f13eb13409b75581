"""From predictions to scores: metrics, scoring, scores on corrupted images."""
