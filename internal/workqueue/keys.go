package workqueue

import (
	"fmt"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// Limits of what a queue takes.
const (
	MinPriority = -128
	MaxPriority = 127
	MaxKey      = 255 // bytes of a dedup key and of a group's name
	MaxReason   = 256 // bytes of the reason that an item keeps
)

// keys knows the keys of one queue. It is the prefix of all of them, with the
// delimiter.
type keys string

// Root returns the prefix of all keys of a queue.
func Root(namespace, name string) string { return keyspace.Prefix(namespace, recipe, name) }

// DeadRoot returns the prefix of the dead letters of the queue with this root;
// they are a queue of their own.
func DeadRoot(root string) string { return root + "dead/" }

// Deliveries returns the prefix of what is delivered to the session with this
// lease: one key for each delivery that is not settled, which ends in the item's
// id, but for those that a session's own process took together.
func Deliveries(root string, lease clientv3.LeaseID) string {
	return keys(root).outOf(leaseText(lease), "")
}

// Names returns the prefix under which a namespace's queues are listed, one key
// for each. No name is escaped to it.
func Names(namespace string) string { return keyspace.RecipePrefix(namespace, recipe) + "_names/" }

const recipe = "queue"

func (k keys) in() string      { return string(k) + "in/" }
func (k keys) front() string   { return string(k) + "in/front/" }
func (k keys) lanes() string   { return string(k) + "in/lane/" }
func (k keys) later() string   { return string(k) + "in/later/" }
func (k keys) asked() string   { return string(k) + "in/asked/" }
func (k keys) woken() string   { return string(k) + "in/woken" }
func (k keys) out() string     { return string(k) + "out/" }
func (k keys) bundles() string { return string(k) + "outs/" }
func (k keys) until() string   { return string(k) + "until/" }
func (k keys) heres() string   { return string(k) + "here/" }
func (k keys) works() string   { return string(k) + "work/" }
func (k keys) idles() string   { return string(k) + "idle/" }
func (k keys) nexts() string   { return string(k) + "next/" }
func (k keys) tails() string   { return string(k) + "lane/" }
func (k keys) heads() string   { return string(k) + "head/" }
func (k keys) fill() string    { return string(k) + "fill" }
func (k keys) paused() string  { return string(k) + "paused" }

// delivered is how the keys of deliveries and bundles begin, and no others.
func (k keys) delivered() string { return string(k) + "out" }

func (k keys) dead() keys { return keys(DeadRoot(string(k))) }

func (k keys) tail(b string) string { return k.tails() + b }
func (k keys) head(b string) string { return k.heads() + b }

// segment returns the beginning of the items of one segment.
func (k keys) segment(b string, n int64) string {
	return k.lanes() + b + "/" + fmt.Sprintf("%012x", n) + "/"
}

func (k keys) frontOf(b string, ord int64, id string) string {
	return k.front() + b + "/" + fmt.Sprintf("%016x", ord) + "/" + id
}

func (k keys) laterAt(ms int64, id string) string {
	return k.later() + due(ms) + "/" + id
}

func (k keys) outOf(lease, id string) string   { return string(k) + "out/" + lease + "/" + id }
func (k keys) bundlesOf(lease string) string   { return k.bundles() + lease + "/" }
func (k keys) untilOf(lease, id string) string { return string(k) + "until/" + lease + "/" + id }
func (k keys) here(lease string) string        { return string(k) + "here/" + lease }
func (k keys) work(lease string) string        { return k.works() + lease }
func (k keys) busy(g string) string            { return string(k) + "busy/" + keyspace.Escape(g) }
func (k keys) next(g string) string            { return k.nexts() + keyspace.Escape(g) + "/" }
func (k keys) dedup(key string) string         { return string(k) + "dedup/" + keyspace.Escape(key) }

// due returns a time of delay as it stands in a key.
func due(ms int64) string { return fmt.Sprintf("%012x", max(ms, 0)) }

// bucket returns a priority as it stands in a key: the more urgent, the smaller.
func bucket(priority int) string { return bucketTexts[MaxPriority-priority] }

var bucketTexts = func() (texts [MaxPriority - MinPriority + 1]string) {
	for i := range texts {
		texts[i] = fmt.Sprintf("%02x", i)
	}
	return texts
}()

// leaseText returns a lease as it stands in a key.
func leaseText(id clientv3.LeaseID) string { return fmt.Sprintf("%016x", uint64(id)) }

// idOf returns the id that ends a key.
func idOf(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }

// end returns the end of a prefix's range.
func end(prefix string) string { return keyspace.End(prefix) }

// all returns a read of everything under a prefix.
func all(prefix string, opts ...clientv3.OpOption) clientv3.Op {
	return clientv3.OpGet(prefix, append(opts, clientv3.WithRange(end(prefix)))...)
}

func absent(key string) clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision(key), "=", 0) }

// unchanged holds as long as a key was not written. It is clientv3.Compare without
// its copies, which show in profiles: there is one for every item that is claimed.
func unchanged(key string, mod int64) clientv3.Cmp {
	var cmp clientv3.Cmp
	c := cmp.GetCompare()
	c.Key, c.Target, c.Result = []byte(key), pb.Compare_MOD, pb.Compare_EQUAL
	c.TargetUnion = &pb.Compare_ModRevision{ModRevision: mod}
	return cmp
}

// put is clientv3.OpPut without its copies: there is one for every item that is
// enqueued.
func put(key string, value []byte) clientv3.Op {
	op := plainPut
	op.WithKeyBytes([]byte(key))
	op.WithValueBytes(value)
	return op
}

var plainPut = clientv3.OpPut("", "")

// nothingUnder holds while no key begins with prefix.
func nothingUnder(prefix string) clientv3.Cmp {
	return absent(prefix).WithRange(end(prefix))
}

// number reads a decimal that this package wrote; anything else is 0.
func number(value []byte) int64 {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
