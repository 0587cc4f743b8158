"""Coming from the Detectron2 system or MMDetection's project."""
