// Package config is the configuration recipe: the ConfigService of
// conclave.config.v1 over the library of the same name.
//
// It keeps nothing in memory: any host serves any call. Beside the library it
// checks values against the JSON Schema of their key, in the transaction that
// publishes them, so that a value never stands under a schema which it was not
// checked against. Its keys are the library's own; docs/protocol-config.md
// describes them.
package config
