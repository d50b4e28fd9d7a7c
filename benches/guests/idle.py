import time

print("idle", flush=True)
time.sleep(3600)
