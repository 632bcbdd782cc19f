"""What a run will need of memory, arithmetic and time, predicted from shapes: no weight is read, no frame decoded."""
