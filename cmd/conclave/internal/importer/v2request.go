package importer

import (
	"fmt"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver/api/v2store"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// A v2Request is a write as the log has it. etcd 3.7 no longer has the message; the numbers of its fields are those of etcd's
// etcdserver.proto up to 3.5.
type v2Request struct {
	method, path, value, prevValue string
	prevIndex                      uint64
	dir, recursive                 bool
	prevExist, refresh             *bool
	expiration, now                int64 // Unix nanoseconds
}

// parseV2 returns the v2 request of an entry, if it is one. Other entries are writes of v3 and changes of members. A request stands in an
// entry as it is, or as the second field of the message that v3 has.
func parseV2(e *raftpb.Entry) (v2Request, bool) {
	if e.GetType() != raftpb.EntryNormal || len(e.GetData()) == 0 {
		return v2Request{}, false
	}
	if r, ok := decodeV2(e.GetData()); ok {
		return r, true
	}
	inner, ok := field(e.GetData(), 2)
	if !ok {
		return v2Request{}, false
	}
	return decodeV2(inner)
}

// field returns the bytes of a field of a message.
func field(b []byte, want protowire.Number) ([]byte, bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, false
		}
		b = b[n:]
		if num == want && typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			return v, n >= 0
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return nil, false
		}
		b = b[n:]
	}
	return nil, false
}

func decodeV2(b []byte) (v2Request, bool) {
	var r v2Request
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return r, false
		}
		b = b[n:]
		switch typ {
		case protowire.BytesType:
			v, used := protowire.ConsumeBytes(b)
			if n = used; n >= 0 {
				r.text(num, string(v))
			}
		case protowire.VarintType:
			v, used := protowire.ConsumeVarint(b)
			if n = used; n >= 0 {
				r.number(num, v)
			}
		default:
			return r, false
		}
		if n < 0 {
			return r, false
		}
		b = b[n:]
	}
	switch r.method {
	case "POST", "PUT", "DELETE", "QGET", "SYNC":
		return r, true
	}
	return r, false
}

func (r *v2Request) text(num protowire.Number, v string) {
	switch num {
	case 2:
		r.method = v
	case 3:
		r.path = v
	case 4:
		r.value = v
	case 6:
		r.prevValue = v
	}
}

func (r *v2Request) number(num protowire.Number, v uint64) {
	yes := v != 0
	switch num {
	case 5:
		r.dir = yes
	case 7:
		r.prevIndex = v
	case 8:
		r.prevExist = &yes
	case 9:
		r.expiration = int64(v)
	case 12:
		r.recursive = yes
	case 15:
		r.now = int64(v)
	case 17:
		r.refresh = &yes
	}
}

// apply does what the server did. What it refused then is refused now, for the same reason.
func (r *v2Request) apply(s v2store.Store) {
	compares := r.prevIndex > 0 || r.prevValue != ""
	ttl := v2store.TTLOptionSet{Refresh: r.refresh != nil && *r.refresh}
	if r.expiration != 0 {
		ttl.ExpireTime = time.Unix(0, r.expiration)
	}
	switch {
	case r.method == "POST":
		_, _ = s.Create(r.path, r.dir, r.value, true, ttl)
	case r.method == "SYNC":
		s.DeleteExpiredKeys(time.Unix(0, r.now))
	case r.method == "DELETE" && compares:
		_, _ = s.CompareAndDelete(r.path, r.prevValue, r.prevIndex)
	case r.method == "DELETE":
		_, _ = s.Delete(r.path, r.dir, r.recursive)
	case r.method != "PUT":
	case r.prevExist != nil && !*r.prevExist:
		_, _ = s.Create(r.path, r.dir, r.value, false, ttl)
	case compares:
		_, _ = s.CompareAndSwap(r.path, r.prevValue, r.prevIndex, r.value, ttl)
	case r.prevExist != nil:
		_, _ = s.Update(r.path, r.value, ttl)
	default:
		_, _ = s.Set(r.path, r.dir, r.value, ttl)
	}
}

// applyMember does what a change of members did to the store: it wrote there too, and the names of keys that were made in order count every
// write.
func applyMember(e *raftpb.Entry, s v2store.Store) error {
	if e.GetType() != raftpb.EntryConfChange {
		return nil
	}
	change := new(raftpb.ConfChange)
	if err := proto.Unmarshal(e.GetData(), change); err != nil {
		return fmt.Errorf("log: entry %d: %w", e.GetIndex(), err)
	}
	member := fmt.Sprintf("/%x", change.GetNodeId())
	if change.GetType() == raftpb.ConfChangeRemoveNode {
		_, _ = s.Delete("/0/members"+member, true, true)
		_, _ = s.Create("/0/removed_members"+member, false, "", false, v2store.TTLOptionSet{})
		return nil
	}
	_, _ = s.Set("/0/members"+member+"/raftAttributes", false, "", v2store.TTLOptionSet{})
	return nil
}
