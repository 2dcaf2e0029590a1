// Package schema holds Certbook's documents: the playbook, the overlay that
// changes a playbook for one site, the inventory of hosts, and the secrets that
// an inventory keeps in an encrypted file.
//
// Bytes become values in two steps. [Parse] accepts one YAML document without
// anchors and keeps every node's position. A [Decoder] then fills Go structs
// from the nodes, strictly: unknown and duplicate keys, wrong types, missing
// and misspelt names are all found, and all reported at once, each with file,
// line, column and the offending line ([Diagnostics]).
//
// Arguments of steps and values of variables stay positioned nodes ([Value])
// until the engine knows which action or host they are for. An overlay is
// therefore a copy of a map, and a mistake is reported where the winning value
// was written.
//
// Whether a value is secret is a property of the document that it was written
// in: [Source.Secret]. Mistakes there have a place and a reason, but quote
// nothing. Decrypting is not done here.
//
// The same struct tags (yaml, doc, default, enum, required) give the JSON
// Schemas that editors use ([JSONSchema]).
package schema
