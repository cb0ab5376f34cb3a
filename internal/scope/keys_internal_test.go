package scope

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// own is the oracle for one key: taken apart at its delimiters, and put together
// again, it is the same.
func own(key, instance string) bool {
	part := strings.SplitN(key, "/", 5)
	if len(part) < 5 {
		return false
	}
	ns, err := keyspace.Unescape(part[2])
	return err == nil && keyspace.CheckNamespace("", ns) == nil && key == keyspace.RecipePrefix(ns, instance)+part[4]
}

// covers says what etcd takes a range for.
func covers(key, end, k string) bool {
	switch end {
	case "":
		return k == key
	case "\x00":
		return k >= key
	default:
		return key <= k && k < end
	}
}

// probes are keys near the borders of a range, and keys of everybody.
func probes(key, end string) []string {
	all := []string{
		key, key + "\x00", key + "\xff", end, end + "\x00", "", "\x00", "\xff\xff", "elsewhere",
		"/conclave/_host/session/1", "/conclave/_host/lock/a/b", "/conclave/default/loc", "/conclave/default/lock", "/conclave/default/lock0",
		"/conclave/default/lock2/a", "/conclave/default/queue/a/b", "/conclave/other/queue/a/b", "/conclave/other/lock/a/b",
		"/conclave/default/lock/\xff\xff\xff", "/conclave/default/lock\xff",
	}
	if end != "" {
		below := end[:len(end)-1]
		all = append(all, below, below+"\xff")
		if last := end[len(end)-1]; last > 0 {
			all = append(all, below+string([]byte{last - 1}), below+string([]byte{last - 1})+"\xff")
		}
	}
	return all
}

// FuzzRanges holds the checks to the oracle: a range that is allowed covers own
// keys only, and one within a namespace's own keys is allowed.
func FuzzRanges(f *testing.F) {
	p := keyspace.RecipePrefix("default", "lock")
	for _, seed := range [][2]string{
		{p, keyspace.End(p)}, {p + "a", ""}, {p + "a/", p + "b"}, {p, "\x00"}, {"\x00", "\x00"}, {"", ""}, {p, p}, {p + "b", p + "a"},
		{p, p[:len(p)-1] + "1"}, {p, p[:len(p)-1] + "00"}, {p[:len(p)-1], ""}, {p, "/conclave/other/lock/"}, {p, "0"},
		{"/conclave/%5Fhost/lock/a", ""}, {"/conclave/_host/lock/a", ""}, {"/conclave/%5fhost/lock/a", ""}, {"/conclave/../lock/a", ""},
		{"/conclave/" + strings.Repeat("a", 255) + "/lock/a", ""}, {"/conclave/" + strings.Repeat("a", 256) + "/lock/a", ""},
		{"/conclave/gr%C3%B6%C3%9Fe/lock/a", "/conclave/gr%C3%B6%C3%9Fe/lock0"}, {"/conclave/%C3/lock/a", ""}, {"/conclave//lock/a", ""},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	k := newKeys("lock")
	f.Fuzz(func(t *testing.T, keyBytes, endBytes []byte) {
		key, end, allowed := string(keyBytes), string(endBytes), k.holds(keyBytes, endBytes)
		if allowed {
			for _, probe := range probes(key, end) {
				if covers(key, end, probe) && !own(probe, "lock") {
					t.Errorf("%q to %q is allowed and covers %q", key, end, probe)
				}
			}
		}
		if !own(key, "lock") {
			if allowed {
				t.Errorf("%q is allowed", key)
			}
			return
		}
		limit := keyspace.End(strings.Join(strings.SplitN(key, "/", 5)[:4], "/") + "/")
		if within := end == "" || key < end && end <= limit; within && !allowed {
			t.Errorf("%q to %q is refused", key, end)
		}
	})
}

// acquire is the transaction of an uncontended lock, several times nested as a
// batch of them is.
func acquire(key string) *pb.TxnRequest {
	p := "/conclave/default/lock/" + key + "/"
	one := clientv3.OpTxn(
		[]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(p), "=", 0).WithRange(keyspace.End(p))},
		[]clientv3.Op{clientv3.OpPut(p+"grant", "value", clientv3.WithLease(7)), clientv3.OpDelete(p + "ticket")},
		[]clientv3.Op{clientv3.OpGet(p, clientv3.WithPrefix())})
	return requestOf(clientv3.OpTxn(nil, []clientv3.Op{one, one, one, one}, nil))
}

// requestOf goes the way of the wire, as a request of another process does.
func requestOf(op clientv3.Op) *pb.TxnRequest {
	cmps, then, els := op.Txn()
	r := &pb.TxnRequest{}
	for _, c := range cmps {
		r.Compare = append(r.Compare, c.GetCompare())
	}
	r.Success, r.Failure = opsOf(then), opsOf(els)
	return r
}

func opsOf(ops []clientv3.Op) []*pb.RequestOp {
	all := make([]*pb.RequestOp, 0, len(ops))
	for _, op := range ops {
		switch {
		case op.IsPut():
			all = append(all, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: op.KeyBytes(), Value: op.ValueBytes()}}})
		case op.IsGet():
			all = append(all, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: op.KeyBytes(), RangeEnd: op.RangeBytes()}}})
		case op.IsDelete():
			all = append(all, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
				RequestDeleteRange: &pb.DeleteRangeRequest{Key: op.KeyBytes(), RangeEnd: op.RangeBytes()},
			}})
		case op.IsTxn():
			all = append(all, &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: requestOf(op)}})
		}
	}
	return all
}

func TestChecksDoNotAllocate(t *testing.T) {
	k, r := newKeys("lock"), acquire("jobs")
	if no := k.txn(r); no != allowed {
		t.Fatalf("refused: %v", no)
	}
	if n := testing.AllocsPerRun(100, func() { k.txn(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	k, r := newKeys("lock"), acquire("jobs")
	b.ReportAllocs()
	for b.Loop() {
		k.txn(r)
	}
}

// A message can say more than this version of etcd's API knows.
func TestUnknownFieldsAreRefused(t *testing.T) {
	k := newKeys("lock")
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 999, protowire.BytesType), []byte("/conclave/default/queue/"))
	for name, of := range map[string]func(*pb.TxnRequest) proto.Message{
		"txn":     func(r *pb.TxnRequest) proto.Message { return r },
		"nested":  func(r *pb.TxnRequest) proto.Message { return r.Success[0].GetRequestTxn() },
		"op":      func(r *pb.TxnRequest) proto.Message { return r.Success[0] },
		"compare": func(r *pb.TxnRequest) proto.Message { return r.Success[0].GetRequestTxn().Compare[0] },
		"put":     func(r *pb.TxnRequest) proto.Message { return r.Success[0].GetRequestTxn().Success[0].GetRequestPut() },
		"delete": func(r *pb.TxnRequest) proto.Message {
			return r.Success[0].GetRequestTxn().Success[1].GetRequestDeleteRange()
		},
		"range": func(r *pb.TxnRequest) proto.Message { return r.Success[0].GetRequestTxn().Failure[0].GetRequestRange() },
	} {
		r := acquire("jobs")
		of(r).ProtoReflect().SetUnknown(unknown)
		if no := k.txn(r); no != kindUnknown {
			t.Errorf("%s: %v", name, no)
		}
	}
}

func TestMissingPartsAreRefused(t *testing.T) {
	k := newKeys("lock")
	for name, r := range map[string]*pb.TxnRequest{
		"none":       nil,
		"no compare": {Compare: []*pb.Compare{nil}},
		"no op":      {Success: []*pb.RequestOp{nil}},
		"empty op":   {Failure: []*pb.RequestOp{{}}},
		"no range":   {Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{}}}},
		"no put":     {Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{}}}},
		"no delete":  {Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{}}}},
		"no txn":     {Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{}}}},
	} {
		if no := k.txn(r); no != kindUnknown {
			t.Errorf("%s: %v", name, no)
		}
	}
	if no := k.watch(nil); no != kindUnknown {
		t.Errorf("no watch: %v", no)
	}
}
