package lock

// recipe is the package's part of the keyspace: every key of a lock begins with
// /conclave/<namespace>/lock/<name>/. Which keys follow, and which transactions
// write them, is the ownership protocol's: internal/waitqueue.
const recipe = "lock"
