"""What is made: a stage's contract, the artifacts, and the record of a finished directory.

Not how a stage is run or kept (`run`), and no stage itself (`stages`).
"""
