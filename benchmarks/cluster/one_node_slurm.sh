#!/bin/bash
# A Slurm of this machine alone, to try job scripts on: all that it keeps is in FOLDER, and nothing of it is left after stop.
#
#   sudo benchmarks/cluster/one_node_slurm.sh start FOLDER     then: export SLURM_CONF=FOLDER/slurm.conf
#   sudo benchmarks/cluster/one_node_slurm.sh stop FOLDER
#
# Debian: apt-get install slurm-wlm munge
set -euo pipefail
CPUS=${CPUS:-4} # that Slurm hands out, whether or not there are so many

daemons="slurmd slurmctld munged"

check() {
    for program in $daemons scontrol; do
        command -v "$program" >/dev/null || { echo "there is no $program; install slurm-wlm and munge" >&2; exit 2; }
    done
    [ "$(id -u)" = 0 ] || { echo "Slurm's daemons need root: run this with sudo" >&2; exit 2; }
}

write_conf() {
    local name address
    name=$(hostname -s) address=$(hostname -I | cut -d' ' -f1) # MPICH wants one that is not the loopback's
    cat >"$folder/slurm.conf" <<END
ClusterName=one
SlurmctldHost=$name($address)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
NodeName=$name NodeAddr=$address CPUs=$CPUS State=UNKNOWN
PartitionName=all Nodes=$name Default=YES MaxTime=INFINITE State=UP
END
}

start() {
    mkdir -p "$folder"/{state,spool}
    chmod 755 "$folder"
    dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 status=none
    chmod 600 "$folder/munge.key"
    write_conf
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
    slurmctld -f "$folder/slurm.conf"
    slurmd -f "$folder/slurm.conf"
    for _ in $(seq 100); do
        SLURM_CONF=$folder/slurm.conf sinfo --noheader --states=idle 2>/dev/null | grep -q idle && return
        sleep 0.2
    done
    echo "the node did not become idle: see $folder/*.log" >&2
    exit 1
}

stop() {
    for name in $daemons; do
        [ -f "$folder/$name.pid" ] || continue
        pid=$(cat "$folder/$name.pid")
        kill "$pid" 2>/dev/null || continue
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    done
}

[ $# = 2 ] || { sed -n '2,6s/^# \?//p' "$0" >&2; exit 2; }
check
folder=$(realpath -m "$2")
case $1 in
    start) start ;;
    stop) stop ;;
    *) echo "expected start or stop, got '$1'" >&2; exit 2 ;;
esac
