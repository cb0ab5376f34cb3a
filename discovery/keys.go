package discovery

import (
	"fmt"
	"strings"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// recipe is the segment of all keys of this package.
const recipe = "discovery"

// instances stands between a service's prefix and an instance's id.
const instances = "instance/"

// checking stands where a service would, and begins the keys of checks that hosts
// carry out. No name is escaped to it.
const checking = "_check/"

// Below it: definitions, by service and id; owners, by shard; hosts, by lease; and
// in the default namespace those that have checks.
const (
	defined    = "on/"
	owners     = "owner/"
	checkers   = "host/"
	namespaces = "namespace/"
)

// checkPrefix begins the keys of all checks of a namespace.
func checkPrefix(namespace string) string {
	return keyspace.RecipePrefix(namespace, recipe) + checking
}

// checkKey is where the definition of an instance's checks stands.
func checkKey(namespace, service, id string) string {
	return checkPrefix(namespace) + defined + keyspace.Escape(service) + "/" + keyspace.Escape(id)
}

// namespaceKey says that a namespace has checks.
func namespaceKey(namespace string) string {
	return checkPrefix(defaultNamespace) + namespaces + keyspace.Escape(namespace)
}

// parseCheck returns the instance that a definition's key is about, given what
// follows checkPrefix and "on/".
func parseCheck(rest string) (service, id string, ok bool) {
	a, b, ok := strings.Cut(rest, "/")
	if !ok {
		return "", "", false
	}
	service, err := keyspace.Unescape(a)
	if err != nil || keyspace.CheckName("service", service) != nil {
		return "", "", false
	}
	id, err = keyspace.Unescape(b)
	if err != nil || keyspace.CheckName("id", id) != nil {
		return "", "", false
	}
	return service, id, true
}

// servicePrefix begins the keys of the instances of one service.
func servicePrefix(namespace, service string) string {
	return keyspace.Prefix(namespace, recipe, service) + instances
}

func instanceKey(namespace, service, id string) string {
	return servicePrefix(namespace, service) + keyspace.Escape(id)
}

// parseKey returns the service and the id of an instance's key, if it is one.
func parseKey(key string) (service, id string, ok bool) {
	k, err := keyspace.Parse(key)
	if err != nil || k.Recipe != recipe {
		return "", "", false
	}
	escaped, ok := strings.CutPrefix(k.Rest, instances)
	if !ok {
		return "", "", false
	}
	id, err = keyspace.Unescape(escaped)
	if err != nil || keyspace.CheckName("id", id) != nil {
		return "", "", false
	}
	return k.Name, id, true
}

func checkService(namespace, service string) error {
	if err := keyspace.CheckNamespace("namespace", namespace); err != nil {
		return fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	if err := keyspace.CheckName("service", service); err != nil {
		return fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	return nil
}
