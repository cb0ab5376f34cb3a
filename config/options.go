package config

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// The limits of what is published, in bytes.
const (
	MaxValue   = 512 << 10 // of a value, and of all values of a release together
	MaxAuthor  = 255
	MaxMessage = 1024
	// MaxRelease is how many keys one release can have.
	MaxRelease = 32
)

// An Option sets up a [Variable] or a [Store]. It is not generic: a default or a
// check of another type than the Variable's is core.ErrInvalid from [Open].
type Option func(*options)

type options struct {
	namespace string
	author    string
	log       *slog.Logger
	codec     core.Codec
	fallback  string
	value     any // the default; nil: there is none
	check     any // func(T) error
	instance  *instance
	health    func(ctx context.Context) error
	every     time.Duration
}

// WithNamespace sets the namespace of the keys. The default is "default".
func WithNamespace(ns string) Option { return func(o *options) { o.namespace = ns } }

// WithAuthor names who publishes, at most 255 bytes of UTF-8. The default is the
// host's name and the process id.
func WithAuthor(name string) Option { return func(o *options) { o.author = name } }

// WithLogger sets the logger, which hears what [Snapshot.Rejected] says, and of
// copies that could not be written to disk. It is told keys and reasons, never
// values. The default is silent.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// WithCodec sets how a value becomes bytes. The default is core.JSON.
func WithCodec(c core.Codec) Option { return func(o *options) { o.codec = c } }

// WithDefault sets the value that a [Variable] has while its key has none: when
// it was never set, and after a tombstone. v has the Variable's type.
func WithDefault[T any](v T) Option { return func(o *options) { o.value = v } }

// WithValidate sets a check that every value has to pass, those that are read and
// those that are set. It is called by one goroutine at a time when values are
// read, must not block, and should not quote the value in its error. A check that
// panics rejects the value.
func WithValidate[T any](check func(T) error) Option { return func(o *options) { o.check = check } }

// WithFallbackFile keeps a copy of the last good value in a file, readable by the
// user alone. [Open] starts with it when etcd does not answer within 3 s, or has
// no good value. The directory must exist; a copy that cannot be written is
// logged, and nothing else. Two Variables must not share a file.
func WithFallbackFile(path string) Option { return func(o *options) { o.fallback = path } }

// WithInstance makes the program an instance that takes part in rollouts, and
// says in etcd what it runs, under the session s, in whose namespace the key is.
// id, one segment of a name, tells it from all others; labels are what a [Scope]
// chooses by. What it says ends with the session.
//
// Without this option a [Variable] has the version that all have, and nothing is
// known of it.
func WithInstance(s *core.Session, id string, labels map[string]string) Option {
	return func(o *options) {
		o.instance = &instance{session: s, id: id, labels: maps.Clone(labels)}
		if s != nil {
			o.namespace = s.Namespace()
		}
	}
}

// WithHealth makes an instance refuse the value of a rollout that it does not do
// well with: while such a value is in force, check is called every so often, and
// the first error ends the rollout, for all instances. At least 10 ms lie between
// two checks; a check's ctx ends after that time, and with the rollout.
func WithHealth(check func(ctx context.Context) error, every time.Duration) Option {
	return func(o *options) { o.health, o.every = check, every }
}

func newOptions(opts []Option) (options, error) {
	o := options{namespace: "default"}
	for _, opt := range opts {
		opt(&o)
	}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	if o.codec == nil {
		o.codec = core.JSON{}
	}
	if o.author == "" {
		o.author = defaultAuthor()
	}
	if err := keyspace.CheckNamespace("namespace", o.namespace); err != nil {
		return o, invalid("%w", err)
	}
	if err := keyspace.CheckText("author", o.author, MaxAuthor); err != nil {
		return o, invalid("%w", err)
	}
	return o, nil
}

func defaultAuthor() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%.200s-%d", host, os.Getpid())
}

// A PublishOption says something about one publication.
type PublishOption func(*publication)

// publication is what the keys of one release have in common.
type publication struct {
	author  string
	message string
}

// Message says why, at most 1,024 bytes of UTF-8, for the history.
func Message(text string) PublishOption { return func(p *publication) { p.message = text } }

// Author says who publishes, in place of the name of [WithAuthor].
func Author(name string) PublishOption { return func(p *publication) { p.author = name } }

func (o *options) publication(opts []PublishOption) (publication, error) {
	p := publication{author: o.author}
	for _, opt := range opts {
		opt(&p)
	}
	if err := keyspace.CheckText("author", p.author, MaxAuthor); err != nil {
		return p, invalid("%w", err)
	}
	if err := keyspace.CheckText("message", p.message, MaxMessage); err != nil {
		return p, invalid("%w", err)
	}
	return p, nil
}
