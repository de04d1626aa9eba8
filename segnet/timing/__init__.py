"""The paper's timing protocol: tables 1 and 6 again, on this machine (`python -m segnet.timing`)."""
