import jax; jax.config.update("jax_enable_x64",True)
import matplotlib; matplotlib.use("Agg")
import sys
from dynsim.maps import regime_map
from dynsim.plots import draw, style
import matplotlib.pyplot as plt
cases={
 "a":dict(),
 "b":dict(colour="local_exponent",tokens="zipf:1",batch_size=4096),
 "c":dict(x="zipf=0:1.5:150",y="vocab_size=16:1e6:150",width=256),
 "d":dict(x="width=16:65536:150",y="age=0.001:1:150",vocab_size=65536),
 "e":dict(colour="restoration"),
 "f":dict(colour="optimal_rate_ratio"),
 "g":dict(colour="mup_share",tokens="corpus",batch_size=4096,y="vocab_size=16:1e5:150"),
 "h":dict(colour="rms",x="batch_size=1:1e5:150",tokens="zipf:1"),
}
for k in sys.argv[1:]:
    r=regime_map(**cases[k]); 
    a=r.plot(); a.figure.savefig(f"/tmp/h/Mtmp/{k}.png",dpi=110,bbox_inches="tight")
    print(k, r.missing_counts)
