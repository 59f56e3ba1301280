import time, os
from tests.real.test_run_cuts import proxy, through
from tests.real.host_processes import status, brokers
def test_x(through, proxy):
    proxy.stall()
    child = through.start("run", "--", "wc", "-c")
    child.stdin.write(b"line\n"); child.stdin.close()
    time.sleep(0.3)
    t0=time.time(); print("cut", proxy.cut()); proxy.resume()
    last=None
    while child.poll() is None and time.time()-t0<45:
        s=(proxy.connections, proxy.cuts, status(through).get("state"), status(through).get("run_id"), brokers(through))
        if s!=last: print(round(time.time()-t0,2), s); last=s
        time.sleep(0.05)
    print(round(time.time()-t0,2), child.wait(), child.stdout.read(), child.stderr.read())
