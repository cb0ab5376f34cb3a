package scope

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// keys says which keys are an instance's own.
type keys struct {
	tail string // what follows the namespace in every key: "/<instance>/"
	none []byte // the beginning of a range that is empty, in the default namespace
}

func newKeys(instance string) keys {
	return keys{tail: "/" + instance + "/", none: []byte(keyspace.RecipePrefix("default", instance))}
}

// holds reports whether the range from key to end, as etcd reads it, lies within
// the instance's keys of one namespace. An empty end stands for the key alone.
// It does not allocate for the usual namespaces.
func (k *keys) holds(key, end []byte) bool {
	n := k.prefix(key)
	if n == 0 {
		return false
	}
	if len(end) == 0 || bytes.HasPrefix(end, key[:n]) {
		return true
	}
	// The end of the whole prefix, as in keyspace.End. Everything beyond it, and
	// the zero byte that means everything, reaches into other keys.
	return len(end) == n && bytes.Equal(end[:n-1], key[:n-1]) && end[n-1] == '/'+1
}

// prefix returns the length of "<root><namespace>/<instance>/" at the beginning
// of key, and 0 if the key does not begin so.
func (k *keys) prefix(key []byte) int {
	const root = len(keyspace.Root)
	if len(key) < root || string(key[:root]) != keyspace.Root {
		return 0
	}
	n := bytes.IndexByte(key[root:], '/')
	if n < 1 || !k.namespace(key[root:root+n]) {
		return 0
	}
	rest := key[root+n:]
	if len(rest) < len(k.tail) || string(rest[:len(k.tail)]) != k.tail {
		return 0
	}
	return root + n + len(k.tail)
}

// namespace reports whether a segment is the one spelling of a namespace. The
// plain ones are told without allocating; the others go the long way.
func (k *keys) namespace(segment []byte) bool {
	if len(segment) <= keyspace.MaxSegment && plain(segment) {
		return true
	}
	_, err := keyspace.Parse(keyspace.Root + string(segment) + k.tail + "name/")
	return err == nil
}

// plain reports whether a segment consists of letters, digits and hyphens, which
// are never escaped and never mean anything else.
func plain(segment []byte) bool {
	for _, c := range segment {
		if ('a' > c || c > 'z') && ('A' > c || c > 'Z') && ('0' > c || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// The checks of requests return the kind of what they refuse, or allowed.

func (k *keys) read(r *pb.RangeRequest) kind {
	return k.check(kindRange, r.ProtoReflect(), r.GetKey(), r.GetRangeEnd())
}

func (k *keys) put(r *pb.PutRequest) kind {
	return k.check(kindPut, r.ProtoReflect(), r.GetKey(), nil)
}

func (k *keys) remove(r *pb.DeleteRangeRequest) kind {
	return k.check(kindDelete, r.ProtoReflect(), r.GetKey(), r.GetRangeEnd())
}

func (k *keys) watch(r *pb.WatchCreateRequest) kind {
	return k.check(kindWatch, r.ProtoReflect(), r.GetKey(), r.GetRangeEnd())
}

func (k *keys) txn(r *pb.TxnRequest) kind {
	if r == nil || foreign(r.ProtoReflect()) {
		return kindUnknown
	}
	for _, c := range r.Compare {
		if no := k.check(kindCompare, c.ProtoReflect(), c.GetKey(), c.GetRangeEnd()); no != allowed {
			return no
		}
	}
	if no := k.ops(r.Success); no != allowed {
		return no
	}
	return k.ops(r.Failure)
}

func (k *keys) ops(ops []*pb.RequestOp) kind {
	for _, op := range ops {
		if no := k.op(op); no != allowed {
			return no
		}
	}
	return allowed
}

func (k *keys) op(op *pb.RequestOp) kind {
	if foreign(op.ProtoReflect()) {
		return kindUnknown
	}
	switch r := op.GetRequest().(type) {
	case *pb.RequestOp_RequestRange:
		return k.read(r.RequestRange)
	case *pb.RequestOp_RequestPut:
		return k.put(r.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return k.remove(r.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return k.txn(r.RequestTxn)
	default:
		return kindUnknown
	}
}

func (k *keys) check(what kind, m protoreflect.Message, key, end []byte) kind {
	switch {
	case !m.IsValid() || foreign(m):
		return kindUnknown
	case !k.holds(key, end):
		return what
	}
	return allowed
}

// foreign reports whether a message has fields that this version of etcd's API
// does not know. A newer etcd might, and might take keys from them.
func foreign(m protoreflect.Message) bool { return len(m.GetUnknown()) > 0 }
