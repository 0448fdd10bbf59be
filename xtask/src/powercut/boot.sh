# Boots the machine and waits until it serves. In some rounds the power goes again while it boots or
# opens the volume; which, and when, is decided by the seed and the round.
cd PLACE || exit 1
failed=0
try=0
while :; do
    try=$((try + 1))
    chance=$(printf '%s' "${LSVD_TORTURE_SEED:-0} ${LSVD_TORTURE_ROUND:-0} $try" | cksum)
    chance=${chance%% *}
    console=console.$(date +%s%N)
    : > "$console"
    ( COMMAND -serial "file:$console" & echo $! > pid.new; mv pid.new pid; wait $!; rm -f pid ) \
        < /dev/null >> qemu.log 2>&1 &
    while [ ! -e pid ]; do sleep 0.01; done

    waited=0
    why=stillborn
    while [ -e pid ] && [ $waited -lt 1200 ]; do
        if grep -q '^nbd://' "$console"; then
            exit 0
        fi
        if grep -q '^guest: the server ended' "$console"; then
            echo "the server in the guest ended:"
            tail -n 12 "$console"
            exit 1
        fi
        if [ $((chance % 100)) -lt AGAIN ] && grep -q '^guest: mounting' "$console"; then
            sleep "0.$((chance / 100 % 90 + 10))"
            why=again
            break
        fi
        sleep 0.05
        waited=$((waited + 1))
    done
    # Its time is over, or it did not come up.
    echo "$console" >> $why
    [ $why = again ] || failed=$((failed + 1))
    sh PLACE/cut.sh
    if [ $failed -ge 3 ]; then
        echo "the guest does not come up:"
        tail -n 12 "$console"
        exit 1
    fi
done
