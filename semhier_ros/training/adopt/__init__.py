"""`semhier adopt`: a detector becomes a stream. Tables are counted, readers fitted in numpy: no torch."""
