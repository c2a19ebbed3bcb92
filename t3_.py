import jax; jax.config.update("jax_enable_x64",True)
import matplotlib; matplotlib.use("Agg")
import sys,time
from dynsim.maps import regime_map
def go(k,*a,**kw):
    t=time.time(); r=regime_map(*a,**kw); print(r); print(r.networks_dataframe().to_string()); print(time.time()-t); r.plot().figure.savefig(f"/tmp/h/Mtmp/{k}.png",dpi=110,bbox_inches="tight")
go("n1",networks="5x4",seeds=8)
go("n2","local_exponent","batch_size=1:1e5:150","vocab_size=16:1e6:150",averaged_over="batch")
