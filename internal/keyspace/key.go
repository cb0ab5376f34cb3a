package keyspace

import (
	"errors"
	"fmt"
	"strings"
)

// Root is the beginning of every key that Conclave writes.
const Root = "/conclave/"

// hostSegment stands where a namespace would. Escape never returns it.
const hostSegment = "_host"

// ErrNotKey says that a key is not a recipe's key: it stands outside Root, lacks
// a segment, holds a name that CheckName refuses, or belongs to the host.
var ErrNotKey = errors.New("not a recipe's key")

// Key is the meaning of one key. Namespace and Name are unescaped; Rest is what
// follows the name's delimiter, as it stands, and may be empty.
type Key struct {
	Namespace string
	Recipe    string
	Name      string
	Rest      string
}

// String returns the key, so that Parse and String are inverses.
func (k Key) String() string { return Prefix(k.Namespace, k.Recipe, k.Name) + k.Rest }

// Prefix returns the beginning of every key of one name, its delimiter included.
// It does not check its arguments: namespace and name come from CheckNamespace
// and CheckName, recipe is a constant that CheckRecipe accepts.
func Prefix(namespace, recipe, name string) string {
	return Root + Escape(namespace) + "/" + recipe + "/" + Escape(name) + "/"
}

// RecipePrefix returns the beginning of every key of one recipe in a namespace.
func RecipePrefix(namespace, recipe string) string {
	return Root + Escape(namespace) + "/" + recipe + "/"
}

// HostPrefix returns the beginning of the host's own keys of one kind, such as
// "session". No namespace reaches them and Parse refuses them.
func HostPrefix(kind string) string { return Root + hostSegment + "/" + kind + "/" }

// Parse takes a key apart. What it returns is safe to show: namespace, recipe
// and name have passed their checks, but Rest is whatever stands in etcd. Every
// other key is an error that wraps ErrNotKey; Parse never panics.
func Parse(key string) (Key, error) {
	path, ok := strings.CutPrefix(key, Root)
	if !ok {
		return Key{}, fmt.Errorf("%w: outside %s", ErrNotKey, Root)
	}
	segments := strings.SplitN(path, "/", 4)
	if len(segments) < 4 {
		return Key{}, fmt.Errorf("%w: %d of 3 segments", ErrNotKey, len(segments)-1)
	}
	if segments[0] == hostSegment {
		return Key{}, fmt.Errorf("%w: the host's own", ErrNotKey)
	}
	k := Key{Recipe: segments[1], Rest: segments[3]}
	var err error
	if k.Namespace, err = Unescape(segments[0]); err != nil {
		return Key{}, fmt.Errorf("%w: namespace: %w", ErrNotKey, err)
	}
	if k.Name, err = Unescape(segments[2]); err != nil {
		return Key{}, fmt.Errorf("%w: name: %w", ErrNotKey, err)
	}
	if err := errors.Join(
		CheckNamespace("namespace", k.Namespace),
		CheckRecipe("recipe", k.Recipe),
		CheckName("name", k.Name),
	); err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrNotKey, err)
	}
	return k, nil
}

// End returns the end of the range that holds exactly the keys that begin with
// prefix, which is one of this package's prefixes or one of them followed by
// more and a delimiter. End of "" is the end of everything.
func End(prefix string) string {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			return prefix[:i] + string([]byte{prefix[i] + 1})
		}
	}
	return "\x00"
}
