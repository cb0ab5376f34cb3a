package session

import (
	"context"

	"github.com/google/uuid"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// Resolve returns what a host tells a recipe of the session that its caller
// named: the metadata of core/recipe, to be added to the call's. An empty
// namespace is "default".
//
// Its errors are those of a call: invalid_session_id, invalid_namespace,
// session_expired, not_permitted, no_quorum. The session may end at any moment
// after the answer: what is then attached to its lease is refused by etcd.
func (s *Service) Resolve(ctx context.Context, id, namespace string) (metadata.MD, error) {
	st, err := s.find(ctx, id, namespace)
	if err != nil {
		return nil, err
	}
	if md := st.told.Load(); md != nil {
		return *md, nil
	}
	md := recipe.Caller{Session: id, Lease: st.lease, TTL: st.ttl, Owner: st.owner, Namespace: st.namespace, Identity: st.identity}.Metadata()
	st.told.Store(&md)
	return md, nil
}

// find returns the session that a caller named, if it stands.
func (s *Service) find(ctx context.Context, id, namespace string) (*state, error) {
	st, err := s.lookup(ctx, id, namespace)
	if err != nil {
		return nil, err
	}
	if st == nil || st.Ending {
		return nil, expired("session %s has ended, or was never opened in that namespace", id)
	}
	return st, nil
}

// lookup returns the session that a caller named, also one that is ending, and
// nil if there is none. What the view does not have is read.
func (s *Service) lookup(ctx context.Context, id, namespace string) (*state, error) {
	namespace, err := namespaceOf(namespace)
	if err != nil {
		return nil, err
	}
	u, err := parseID(id)
	if err != nil {
		return nil, badID(id)
	}
	st := s.view.find(u)
	if st == nil {
		if st, err = s.read(ctx, u, namespace); err != nil || st == nil {
			return nil, err
		}
	}
	if st.namespace != namespace {
		return nil, invalid("invalid_namespace", "namespace: %q is not that of the session, which is %q", namespace, st.namespace)
	}
	if st.identity != identityOf(ctx) {
		return nil, recipe.Errorf(codes.PermissionDenied, "not_permitted", "session %s was opened by somebody else", id)
	}
	return st, nil
}

func badID(id string) error {
	if id == "" {
		return invalid("invalid_session_id", "session_id: is empty; open a session first")
	}
	return invalid("invalid_session_id", "session_id: is not an id that Open returned")
}

// read returns the session as etcd has it, nil if it has none.
func (s *Service) read(ctx context.Context, id uuid.UUID, namespace string) (*state, error) {
	kv, rev, err := s.readRecord(ctx, keyspace.SessionKey(namespace, id.String()))
	if err != nil || kv == nil {
		return nil, err
	}
	st, err := parse(kv)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // what no host has written is no session
	}
	s.view.learn(st, rev)
	return st, nil
}

// readRecord returns a key, nil if it does not stand, and the revision of the read.
func (s *Service) readRecord(ctx context.Context, key string) (*mvccpb.KeyValue, int64, error) {
	etcd, cancel := context.WithTimeout(ctx, callBudget)
	defer cancel()
	got, err := s.client.Get(etcd, key)
	if err != nil {
		return nil, 0, readFailed(ctx, err)
	}
	if len(got.Kvs) == 0 {
		return nil, got.Header.Revision, nil
	}
	return got.Kvs[0], got.Header.Revision, nil
}
