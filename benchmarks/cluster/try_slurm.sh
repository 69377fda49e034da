#!/bin/bash
# tieline.sbatch tried on a Slurm that is running: writes what became of each job to standard output, as Markdown.
#
#   benchmarks/cluster/try_slurm.sh [JOB ...] >benchmarks/results/slurm.md
#
# JOB is one of ended, terminated, cancelled, killed, once, limited; by default all.
# LONG_CASE: of limited, one that takes longer than a minute.
# Needs sbatch, tieline on the PATH, and a folder that the nodes share (FOLDER; by default a new one here, removed after).
# RANKS, MPI (pmi2 for MPICH, pmix for Open MPI) and SBATCH_PARTITION and the like say how. Takes five to ten minutes.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
RANKS=${RANKS:-3}
SHORT=(ieee33-10ec --checkpoint-every 0.000001 --deadline 60)
LONG=("${LONG_CASE:-ieee33-10ec:summer-15min}" --deadline 300)
LIMIT_MINUTES=${LIMIT_MINUTES:-1} # of the job that is limited; more on a slow machine, where it could not get anywhere
LIMIT_SECONDS=1800

command -v sbatch tieline >/dev/null || { echo "there is no sbatch or no tieline on the PATH" >&2; exit 2; }
sinfo >/dev/null || { echo "Slurm does not answer; one_node_slurm.sh starts one for trying" >&2; exit 2; }
folder=$(realpath "${FOLDER:-$(mktemp -d -p .)}")
jobs=()
trap '[ ${#jobs[@]} = 0 ] || scancel -q "${jobs[@]}" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"

say() { echo "$(date +%T) $*" >&2; }

submit() { # NAME OUTPUT-FOLDER SBATCH-OPTIONS... -- ARGUMENTS...; sets job, name and dir
    local options=()
    name=$1 dir=$folder/$2 began=$SECONDS
    shift 2
    while [ "$1" != -- ]; do options+=("$1") && shift; done
    shift
    job=$(sbatch --parsable --ntasks="$RANKS" --output="$name.log" "${options[@]}" "$here/tieline.sbatch" "$1" "$dir" "${@:2}")
    jobs+=("$job")
    say "$name: job $job"
}

is() { scontrol show job "$job" | grep -oP "\b$1=\K\S+"; }

wait_for_checkpoint() {
    until [ -f "$dir/checkpoint.h5" ]; do sleep 0.1; done
}

wait_for_end() { # Slurm lets a job that is queued again wait for two minutes; here it starts at once
    local until=$((SECONDS + LIMIT_SECONDS))
    while [[ $(is JobState) =~ PENDING|RUNNING|COMPLETING|REQUEUED ]]; do
        [ "$(is JobState)/$(is Reason)" != PENDING/BeginTime ] || scontrol update JobId="$job" StartTime=now
        [ $SECONDS -lt $until ] || { say "$name: job $job hangs" && break; }
        sleep 1
    done
    say "$name: $(is JobState)"
}

kill_a_rank() { # the second one, of those on the job's first node
    # shellcheck disable=SC2016  # for the other shell
    srun --jobid="$job" --overlap --nodes=1 --ntasks=1 bash -c '
        for process in /proc/[0-9]*; do
            found=$(tr "\0" "\n" <"$process/environ" | grep -cxE "SLURM_(JOB_ID=$0|STEP_ID=0|PROCID=1)") || true
            [ "$found" != 3 ] || kill -KILL "${process#/proc/}"
        done' "$job" 2>/dev/null
}

row() { # WHAT REFERENCE-FOLDER
    local same=- codes
    codes=$(grep -oP 'exit code \K\d+(?= in start)' "$name.log" | paste -sd, | sed 's/,/, /g' || true)
    if [ "$(is JobState)" = COMPLETED ] && [ -f "$2/boundary.h5" ]; then
        cmp -s "$dir/boundary.h5" "$2/boundary.h5" && same=True || same=False
    fi
    resumed=$(grep -oP 'goes on after iteration \K\d+' "$name.log" | paste -sd, | sed 's/,/, /g' || true)
    echo "| $1 | $(($(is Restarts) + 1)) | ${codes:--} | ${resumed:--} | $(is JobState) | $(is ExitCode) | $same | $((SECONDS - began)) |"
}

echo "| job | starts | exit codes of those that were ended | went on after iteration | state | exit code | same bytes | seconds |"
echo "| --- | --- | --- | --- | --- | --- | --- | --- |"

ended() {
    submit short short -- "${SHORT[@]}"
    wait_for_end
    row "to the end" one-process-short
}

terminated() {
    submit terminated terminated -- "${SHORT[@]}"
    wait_for_checkpoint
    scancel --signal=TERM "$job"
    wait_for_end
    row '`scancel --signal=TERM`' one-process-short
}

cancelled() {
    submit cancelled cancelled -- "${SHORT[@]}"
    wait_for_checkpoint
    scancel "$job"
    wait_for_end
    row '`scancel`' one-process-short
    submit resubmitted cancelled -- "${SHORT[@]}"
    wait_for_end
    row "the same folder submitted again" one-process-short
}

killed() {
    submit killed killed -- "${SHORT[@]}"
    wait_for_checkpoint
    kill_a_rank
    wait_for_end
    row "a rank killed" one-process-short
}

once() {
    MOST_STARTS=1 submit once once -- "${SHORT[@]}"
    wait_for_checkpoint
    kill_a_rank
    wait_for_end
    row 'a rank killed, `MOST_STARTS=1`' one-process-short
    submit again once -- "${SHORT[@]}"
    wait_for_end
    row "the same folder submitted again" one-process-short
}

limited() {
    tieline run "${LONG[@]}" --out one-process-long >/dev/null
    MOST_STARTS=60 submit limited limited --time="$LIMIT_MINUTES" --signal=TERM@20 -- "${LONG[@]}"
    wait_for_end
    row "a time limit of $LIMIT_MINUTES min, \`--signal=TERM@20\`" one-process-long
}

tieline run "${SHORT[@]}" --out one-process-short >/dev/null
[ $# -gt 0 ] || set -- ended terminated cancelled killed once limited
for one in "$@"; do "$one"; done

cat <<END

\`tieline.sbatch\` on $RANKS ranks (\`srun --mpi=${MPI:-pmi2}\`), $(srun --version); the jobs are ${SHORT[0]}, the limited one
${LONG[0]}. \`exit codes\`: of \`srun\`, the highest of all ranks, where one was killed that of the signal. \`exit code\`: of the job and its signal, as Slurm shows it. \`same bytes\`: whether boundary.h5 is that of a
run in one process without a limit. Before it starts a job again Slurm waits for two minutes, which were left out here.
$(python3 -c 'from admm.output import versions; from benchmarks.measure import machine; print(f"{versions()}. {machine()}.")')
END
