"""What should always hold: wish and fact are compared every few seconds.

Each reconciler takes no argument, reads all, decides by a pure diff (`diff.py`) and only opens operations or
alarms (`run.py`); it acts on nothing itself. That a subject has one operation at a time keeps it from
fighting a workflow.
"""
