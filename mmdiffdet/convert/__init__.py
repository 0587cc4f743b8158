"""Coming from the Detectron2 seed system or MMDetection's project."""
