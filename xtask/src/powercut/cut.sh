# Takes the power from the machine. Its disk is in another process, which forgets what was not
# flushed when it sees the connection end.
cd PLACE || exit 1
[ -e pid ] && kill -9 "$(cat pid)"
while [ -e pid ]; do sleep 0.005; done
