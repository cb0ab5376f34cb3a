package keyspace

import (
	"fmt"
	"strings"
)

// sessionKind is the kind of the host's keys that hold the sessions of callers.
const sessionKind = "session"

// SessionsPrefix returns the beginning of every session's key, whatever its
// namespace.
func SessionsPrefix() string { return HostPrefix(sessionKind) }

// SessionPrefix returns the beginning of the keys of the sessions of one
// namespace, which CheckNamespace accepts.
func SessionPrefix(namespace string) string { return SessionsPrefix() + Escape(namespace) + "/" }

// SessionKey returns the key of the session with the given id, which holds no
// "/".
func SessionKey(namespace, id string) string { return SessionPrefix(namespace) + id }

// ParseSession takes a session's key apart. The namespace has passed
// CheckNamespace, the id is whatever stands in etcd. Every other key is an error
// that wraps ErrNotKey.
func ParseSession(key string) (namespace, id string, err error) {
	path, ok := strings.CutPrefix(key, SessionsPrefix())
	if !ok {
		return "", "", fmt.Errorf("%w: outside %s", ErrNotKey, SessionsPrefix())
	}
	segment, id, ok := strings.Cut(path, "/")
	if !ok || id == "" || strings.Contains(id, "/") {
		return "", "", fmt.Errorf("%w: not a namespace and an id", ErrNotKey)
	}
	if namespace, err = Unescape(segment); err == nil {
		err = CheckNamespace("namespace", namespace)
	}
	if err != nil {
		return "", "", fmt.Errorf("%w: namespace: %w", ErrNotKey, err)
	}
	return namespace, id, nil
}
