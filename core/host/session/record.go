package session

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/internal/keyspace"
)

const recordVersion = 1

// A record is the value of a session's key. The lease is the one that the key is
// attached to; id and namespace are in the key.
type record struct {
	V        int       `json:"v"`
	Owner    string    `json:"owner"`
	Identity string    `json:"identity,omitempty"`
	TTL      int64     `json:"ttl"` // seconds
	Since    time.Time `json:"since"`
	Fast     bool      `json:"fast,omitempty"`
	attachment
}

// An attachment is the part of a record that changes: which connection a session
// with fast release hangs on.
type attachment struct {
	Conn   string `json:"conn,omitempty"`   // unique to one attachment of a stream
	Seq    int64  `json:"seq,omitempty"`    // the sequence of that stream's first request
	Host   string `json:"host,omitempty"`   // the name of the host that serves it
	Ending bool   `json:"ending,omitempty"` // Conn has ended, and the lease is being revoked
}

// with returns a record's bytes with another attachment. Fields that this version
// does not know are kept, since hosts of every version meet in a record.
func (a attachment) with(value []byte) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(value, &fields); err != nil {
		return nil, fmt.Errorf("session record: %w", err)
	}
	for _, name := range []string{"conn", "seq", "host", "ending"} {
		delete(fields, name)
	}
	own, err := json.Marshal(a)
	if err == nil {
		err = json.Unmarshal(own, &fields)
	}
	if err != nil {
		return nil, fmt.Errorf("session record: %w", err)
	}
	return json.Marshal(fields)
}

// A state is what a host knows of one session: its record at one revision. It
// never changes but for what is derived from it.
type state struct {
	id        uuid.UUID
	namespace string
	lease     clientv3.LeaseID
	ttl       time.Duration
	owner     string
	identity  string
	since     time.Time
	fast      bool
	attachment
	created int64
	rev     int64

	told atomic.Pointer[metadata.MD] // what recipes are told of it, once one was
}

func (s *state) key() string { return keyspace.SessionKey(s.namespace, s.id.String()) }

// parse reads a record. The error is about one that no host has written, which
// is then no session.
func parse(kv *mvccpb.KeyValue) (*state, error) {
	namespace, name, err := keyspace.ParseSession(string(kv.Key))
	if err != nil {
		return nil, err
	}
	id, err := parseID(name)
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(kv.Value, &r); err != nil {
		return nil, fmt.Errorf("session record: %w", err)
	}
	if r.TTL <= 0 || kv.Lease == 0 {
		return nil, fmt.Errorf("session record: ttl %d, lease %x", r.TTL, kv.Lease)
	}
	return &state{id: id, namespace: namespace, lease: clientv3.LeaseID(kv.Lease), ttl: time.Duration(r.TTL) * time.Second,
		owner: r.Owner, identity: r.Identity, since: r.Since, fast: r.Fast, attachment: r.attachment,
		created: kv.CreateRevision, rev: kv.ModRevision}, nil
}

// parseID accepts the one spelling that hosts write: else one session would have
// several names.
func parseID(s string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err == nil && id.String() != s {
		err = fmt.Errorf("is not in lower case with hyphens")
	}
	return id, err
}
