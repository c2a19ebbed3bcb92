#!/bin/bash
# A sweep on the nodes of a SLURM job:
#     sbatch --ntasks=64 examples/slurm/sweep.sh --widths 64 128 256 ... --out sweep.nc
# The same line again goes on after the job's end, whatever ended it.
#SBATCH --job-name=dynsim-sweep
#SBATCH --ntasks=8
#SBATCH --cpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --open-mode=append
# For GPUs add --gpus-per-task=1.
set -euo pipefail

# A scheduler runs the code of whoever reaches it. So everybody in this job shows a certificate that
# lies where only you can read it, on a file system that all nodes share.
umask 077
private=$(mktemp -d "$PWD/.dynsim-job-$SLURM_JOB_ID-XXXXXX")
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -subj "/CN=dynsim" -keyout "$private/key.pem" -out "$private/certificate.pem" 2> /dev/null
export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=true
export DASK_DISTRIBUTED__COMM__TLS__CA_FILE="$private/certificate.pem"
for who in SCHEDULER WORKER CLIENT; do
    export "DASK_DISTRIBUTED__COMM__TLS__${who}__CERT=$private/certificate.pem"
    export "DASK_DISTRIBUTED__COMM__TLS__${who}__KEY=$private/key.pem"
done
export DASK_LOGGING__DISTRIBUTED=error # what matters is said by dynsim

quiet=(--no-dashboard --dashboard-address 127.0.0.1:0) # no pages beyond the node
dask scheduler --protocol tls --host "$(hostname)" --port 0 "${quiet[@]}" \
    --scheduler-file "$private/scheduler.json" &
scheduler=$! workers=
leave() {
    trap "" TERM INT # to the end
    for one in $workers $scheduler; do
        kill "$one" 2> /dev/null || true
        wait "$one" || true
    done
    rm -rf "$private"
}
trap leave EXIT
until [ -s "$private/scheduler.json" ]; do
    kill -0 "$scheduler" # it has not failed
    sleep 0.2
done
address=$(sed -n 's/.*"address": "\([^"]*\)".*/\1/p' "$private/scheduler.json")

# One worker a task, and one thing at a time for each; the file system need not be quick for them.
srun dask worker --scheduler-file "$private/scheduler.json" --nthreads 1 --memory-limit 0 \
    "${quiet[@]}" --no-nanny --death-timeout 120 --local-directory "${TMPDIR:-/tmp}" &
workers=$!

dynsim sweep "$@" --resume --executor "dask:$address"
