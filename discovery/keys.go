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
