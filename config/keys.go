package config

import (
	"fmt"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
)

const (
	// recipe is the package's part of the keyspace.
	recipe = "config"
	// versionSegment begins the histories. Escape never returns it, so that it is
	// below no key.
	versionSegment = "_version/"

	// runningSegment begins what instances say that they run, likewise.
	runningSegment = "_running/"

	valueKey     = "value"
	schemaKey    = "schema"
	candidateKey = "rollout/candidate"
	scopeKey     = "rollout/scope"
)

// keep is how many versions of a key the history has at most.
const keep = 50

// space is the keys of one namespace.
type space struct {
	namespace string
	prefix    string
}

func newSpace(namespace string) space {
	return space{namespace: namespace, prefix: keyspace.RecipePrefix(namespace, recipe)}
}

func (s space) value(key string) string {
	return keyspace.Prefix(s.namespace, recipe, key) + valueKey
}

func (s space) schema(key string) string {
	return keyspace.Prefix(s.namespace, recipe, key) + schemaKey
}

func (s space) history(key string) string {
	return s.prefix + versionSegment + keyspace.Escape(key) + "/"
}

// all begins every key of a name but its history and its instances.
func (s space) all(key string) string { return keyspace.Prefix(s.namespace, recipe, key) }

func (s space) candidate(key string) string { return s.all(key) + candidateKey }

func (s space) scope(key string) string { return s.all(key) + scopeKey }

// running begins the keys of the instances that say what they run of a key.
func (s space) running(key string) string {
	return s.prefix + runningSegment + keyspace.Escape(key) + "/"
}

func (s space) instance(key, id string) string { return s.running(key) + keyspace.Escape(id) }

// version is the key of one version in the history. Its spelling sorts as the
// number does.
func (s space) version(key string, number int64) string {
	return fmt.Sprintf("%s%016x", s.history(key), number)
}

// numberOf reads the number from a version's key.
func numberOf(key string) (int64, bool) {
	n, err := strconv.ParseInt(key[strings.LastIndexByte(key, '/')+1:], 16, 64)
	return n, err == nil && n > 0
}

// nameOf returns the configuration key whose present value stands under an etcd
// key, and whether that is so.
func nameOf(key string) (string, bool) {
	k, err := keyspace.Parse(key)
	return k.Name, err == nil && k.Recipe == recipe && k.Rest == valueKey
}

// present returns the ranges that hold what is not history, for the keys whose
// name begins with prefix. An escaped prefix is a prefix of what it begins, but
// for an underscore at the very beginning, which is escaped alike.
func (s space) present(prefix string) []span {
	from := s.prefix + keyspace.Escape(prefix)
	end := keyspace.End(from)
	if prefix != "" {
		return []span{{from, end}}
	}
	running, history := s.prefix+runningSegment, s.prefix+versionSegment
	return []span{{from, running}, {keyspace.End(running), history}, {keyspace.End(history), end}}
}

type span struct{ from, end string }

func (r span) op(limit int64) clientv3.Op {
	return clientv3.OpGet(r.from, clientv3.WithRange(r.end), clientv3.WithLimit(limit))
}
