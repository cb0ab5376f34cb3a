package coretest

import (
	"bytes"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Match decides whether a fault concerns a request. method is gRPC's full name, such as "/etcdserverpb.KV/Txn"; req is the message, such as
// *etcdserverpb.TxnRequest. It must not change req, and may be called from several goroutines at once.
type Match func(method string, req any) bool

// Method matches a method by its name, "Txn", or by service and name, "KV/Range".
func Method(name string) Match {
	return func(method string, _ any) bool {
		return strings.HasSuffix(method, "/"+name) || strings.HasSuffix(method, "."+name)
	}
}

// Puts matches requests that may write a key containing substr: a put, or a transaction with such a put in either branch, at any depth.
func Puts(substr string) Match {
	return func(_ string, req any) bool {
		return anyOp(req, func(o ops) bool { return o.put != nil && contains(o.put.Key, substr) })
	}
}

// Deletes matches requests that may delete a key, or a range that begins with a key, containing substr; transactions as for Puts.
func Deletes(substr string) Match {
	return func(_ string, req any) bool {
		return anyOp(req, func(o ops) bool { return o.del != nil && contains(o.del.Key, substr) })
	}
}

// Reads matches requests that may read a key, or a range that begins with a key, containing substr; transactions as for Puts.
func Reads(substr string) Match {
	return func(_ string, req any) bool {
		return anyOp(req, func(o ops) bool { return o.get != nil && contains(o.get.Key, substr) })
	}
}

// Compares matches transactions with a condition on a key containing substr, at any depth.
func Compares(substr string) Match {
	return func(_ string, req any) bool {
		return anyOp(req, func(o ops) bool { return o.cmp != nil && contains(o.cmp.Key, substr) })
	}
}

// All matches what every one of ms matches.
func All(ms ...Match) Match {
	return func(method string, req any) bool {
		for _, m := range ms {
			if !m(method, req) {
				return false
			}
		}
		return true
	}
}

// Not matches what m does not.
func Not(m Match) Match {
	return func(method string, req any) bool { return !m(method, req) }
}

// ops is one operation or condition of a request: exactly one field is set.
type ops struct {
	put *pb.PutRequest
	del *pb.DeleteRangeRequest
	get *pb.RangeRequest
	cmp *pb.Compare
}

func anyOp(req any, f func(ops) bool) bool {
	switch r := req.(type) {
	case *pb.PutRequest:
		return f(ops{put: r})
	case *pb.DeleteRangeRequest:
		return f(ops{del: r})
	case *pb.RangeRequest:
		return f(ops{get: r})
	case *pb.TxnRequest:
		return anyOfTxn(r, f)
	}
	return false
}

func anyOfTxn(t *pb.TxnRequest, f func(ops) bool) bool {
	for _, c := range t.Compare {
		if f(ops{cmp: c}) {
			return true
		}
	}
	for _, branch := range [][]*pb.RequestOp{t.Success, t.Failure} {
		for _, op := range branch {
			if anyOp(request(op), f) {
				return true
			}
		}
	}
	return false
}

func request(op *pb.RequestOp) any {
	switch r := op.Request.(type) {
	case *pb.RequestOp_RequestPut:
		return r.RequestPut
	case *pb.RequestOp_RequestDeleteRange:
		return r.RequestDeleteRange
	case *pb.RequestOp_RequestRange:
		return r.RequestRange
	case *pb.RequestOp_RequestTxn:
		return r.RequestTxn
	}
	return nil
}

func contains(key []byte, substr string) bool { return bytes.Contains(key, []byte(substr)) }
