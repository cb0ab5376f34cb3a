#!/usr/bin/env python3
"""Makes one program of src/: the file that a host runs."""
import sys
import zipapp

to = sys.argv[1] if len(sys.argv) > 1 else "ratelimit"
zipapp.create_archive("src", to, interpreter="/usr/bin/env python3", main="recipe:main", filter=lambda p: "__pycache__" not in p.parts)
