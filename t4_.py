import jax; jax.config.update("jax_enable_x64",True)
import matplotlib; matplotlib.use("Agg")
import sys,time
from dynsim.maps import regime_map
class S(dict):
    def read(self,n,i): return self.get((n,i))
    def write(self,n,i,a): self[(n,i)]=a
def go(k,*a,**kw):
    t=time.time(); r=regime_map(*a,**kw); print(r); print(time.time()-t); r.plot().figure.savefig(f"/tmp/h/Mtmp/{k}.png",dpi=110,bbox_inches="tight"); return r
s=S()
go("m1","loss","embedding_lr=1e-3:1:20","projection_lr=1e-3:1:20",steps=8,width=256,vocab_size=1024,store=s)
go("m2","loss","width=64:65536:4","vocab_size=64:65536:4",steps=8,store=s)
go("m3","loss","steps=1:16:16","embedding_lr=1e-3:1:12",vocab_size=4096,width=512,projection_lr="1/d",store=s)
go("m4","local_exponent","width=64:65536:4","vocab_size=64:65536:4",theory="mean_field",store=s)
