package waitqueue

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

// waiting is the version of a ticket that waits: it is put once. Granting it
// puts it again, so one comparison over a range tells that nobody waits there;
// an empty range has version 0.
const waiting = 1

func absent(key string) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
}

func absentIn(s span) clientv3.Cmp { return overSpan(absent(s.from), s) }

func idle(s span) clientv3.Cmp {
	return overSpan(clientv3.Compare(clientv3.Version(s.from), "!=", waiting), s)
}

// overSpan makes c one over all keys of s. It does what WithRange does, without
// its deep copy, which showed in profiles.
func overSpan(c clientv3.Cmp, s span) clientv3.Cmp {
	c.GetCompare().RangeEnd = []byte(s.end)
	return c
}

// unmodified holds when key was last written at rev. For a ticket that waits
// that is its create revision.
func unmodified(key string, rev int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", rev)
}

func unmodifiedValue(key, value string) clientv3.Cmp {
	return clientv3.Compare(clientv3.Value(key), "=", value)
}

// noneNewer holds when nothing in s was written after rev.
func noneNewer(s span, rev int64) clientv3.Cmp {
	return overSpan(clientv3.Compare(clientv3.ModRevision(s.from), "<", rev+1), s)
}

func get(s span, opts ...clientv3.OpOption) clientv3.Op {
	return clientv3.OpGet(s.from, append(opts, clientv3.WithRange(s.end))...)
}

// first reads the n oldest keys of s.
func first(s span, n int64) clientv3.Op {
	return get(s, clientv3.WithLimit(n), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
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
