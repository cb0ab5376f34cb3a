package waitqueue

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

// waiting is the version of a ticket that waits: it is put once. Granting it
// puts it again, so one comparison over a range tells that nobody waits there;
// an empty range has version 0.
const waiting = 1

// compare makes a comparison, over a range if end is not empty. The client's
// own constructors copy the message at every step, which showed in profiles.
func compare(key, end string, result pb.Compare_CompareResult, to func(*pb.Compare)) clientv3.Cmp {
	var cmp clientv3.Cmp
	c := cmp.GetCompare()
	c.Key, c.Result = []byte(key), result
	if end != "" {
		c.RangeEnd = []byte(end)
	}
	to(c)
	return cmp
}

func created(rev int64) func(*pb.Compare) {
	return func(c *pb.Compare) {
		c.Target, c.TargetUnion = pb.Compare_CREATE, &pb.Compare_CreateRevision{CreateRevision: rev}
	}
}

func modified(rev int64) func(*pb.Compare) {
	return func(c *pb.Compare) {
		c.Target, c.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: rev}
	}
}

func version(v int64) func(*pb.Compare) {
	return func(c *pb.Compare) {
		c.Target, c.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{Version: v}
	}
}

func absent(key string) clientv3.Cmp { return compare(key, "", pb.Compare_EQUAL, created(0)) }

func absentIn(s span) clientv3.Cmp { return compare(s.from, s.end, pb.Compare_EQUAL, created(0)) }

// idle holds when nobody waits in s.
func idle(s span) clientv3.Cmp { return compare(s.from, s.end, pb.Compare_NOT_EQUAL, version(waiting)) }

// unmodified holds when key was last written at rev. For a ticket that waits
// that is its create revision.
func unmodified(key string, rev int64) clientv3.Cmp {
	return compare(key, "", pb.Compare_EQUAL, modified(rev))
}

// unmodifiedIn holds when there is something in s, and all of it was last written
// at rev.
func unmodifiedIn(s span, rev int64) clientv3.Cmp {
	return compare(s.from, s.end, pb.Compare_EQUAL, modified(rev))
}

// unmodifiedValue holds when key has the value.
func unmodifiedValue(key, value string) clientv3.Cmp {
	return clientv3.Compare(clientv3.Value(key), "=", value)
}

// notValue holds when key has another value. It does not hold if there is no key.
func notValue(key, value string) clientv3.Cmp {
	return clientv3.Compare(clientv3.Value(key), "!=", value)
}

// noneNewer holds when nothing in s was written after rev.
func noneNewer(s span, rev int64) clientv3.Cmp {
	return compare(s.from, s.end, pb.Compare_LESS, modified(rev+1))
}

// never is a comparison that no key passes: revisions are not negative.
func never(key string) clientv3.Cmp { return compare(key, "", pb.Compare_LESS, created(0)) }

func get(s span, opts ...clientv3.OpOption) clientv3.Op {
	return clientv3.OpGet(s.from, append(opts, clientv3.WithRange(s.end))...)
}

// first reads the n oldest keys of s.
func first(s span, n int64, opts ...clientv3.OpOption) clientv3.Op {
	return get(s, append(opts, clientv3.WithLimit(n), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))...)
}

func nested(cmps []clientv3.Cmp, then, otherwise []clientv3.Op) clientv3.Op {
	return clientv3.OpTxn(cmps, then, otherwise)
}

// kvs returns what the i-th operation of r read.
func kvs(r commit.Result, i int) []*mvccpb.KeyValue {
	return r.Responses[i].GetResponseRange().GetKvs()
}

// kv returns the one key that the i-th operation of r read, or nil.
func kv(r commit.Result, i int) *mvccpb.KeyValue {
	if all := kvs(r, i); len(all) > 0 {
		return all[0]
	}
	return nil
}
