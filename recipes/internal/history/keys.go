package history

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// space adds the keys of the history to those of a namespace's names.
type space struct{ state.Space }

func (s space) mark() string     { return s.Own("mark") }
func (s space) recorder() string { return s.Own("recorder") }

// alive stands as long as a lease lives that owned something: if it goes
// together with an ownership, the session ended, and nobody released.
func (s space) alive(lease int64) string {
	return s.Own(leaseKind) + fmt.Sprintf("%016x", uint64(lease))
}

// The kinds of keys that go with a lease: the recorder's, and the one that the
// library keeps for every session of a remote caller.
const (
	leaseKind = "lease/"
	homeKind  = "home/"
)

// leases holds all keys of both kinds: nothing of the recipe's stands between.
func (s space) leases() span { return span{s.Own(homeKind), keyspace.End(s.Own(leaseKind))} }

// leaseOf reads the key of a lease; ok is false for every other key.
func (s space) leaseOf(key string) (lease int64, ok bool) {
	hex, ok := strings.CutPrefix(key, s.Own(leaseKind))
	if !ok {
		if hex, ok = strings.CutPrefix(key, s.Own(homeKind)); !ok {
			return 0, false
		}
	}
	id, err := strconv.ParseUint(hex, 16, 64)
	return int64(id), err == nil
}

func (s space) chunks() string { return s.Own("history/") }

func (s space) chunksOf(segment string) string { return s.chunks() + segment + "/" }

// A chunkKey says what a chunk holds, so that a recorder which starts reads keys
// only. In etcd it is <revision>.<time>.<number>, in hexadecimal digits.
type chunkKey struct {
	rev  int64 // of its last ending
	unix int64 // when it was written, in seconds
	n    int   // endings
}

func (k chunkKey) String() string { return fmt.Sprintf("%016x.%08x.%02x", k.rev, k.unix, k.n) }

// parseChunk reads the key of a chunk; ok is false for every other key.
func (s space) parseChunk(key string) (segment string, k chunkKey, ok bool) {
	path, ok := strings.CutPrefix(key, s.chunks())
	segment, rest, ok2 := strings.Cut(path, "/")
	part := strings.Split(rest, ".")
	if !ok || !ok2 || len(part) != 3 {
		return "", chunkKey{}, false
	}
	rev, err1 := strconv.ParseInt(part[0], 16, 64)
	unix, err2 := strconv.ParseInt(part[1], 16, 64)
	n, err3 := strconv.ParseInt(part[2], 16, 32)
	if err1 != nil || err2 != nil || err3 != nil {
		return "", chunkKey{}, false
	}
	return segment, chunkKey{rev, unix, int(n)}, true
}

// namespaces holds one key for each namespace that has a history. It stands in
// the default namespace, where every recorder finds it.
func namespaces(instance string) string {
	return state.NewSpace(DefaultNamespace, instance).Own("namespace/")
}

func namespaceKey(instance, namespace string) string {
	return namespaces(instance) + keyspace.Escape(namespace)
}

// DefaultNamespace is the namespace of those who name none.
const DefaultNamespace = "default"
