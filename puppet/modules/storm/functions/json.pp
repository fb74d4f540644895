# What:  a value as JSON, which is YAML too: strings quoted, lists in brackets, numbers and booleans bare.
# Why:   one key a line in storm.yaml can then be read by Storm and, without a YAML reader, by storm-ask.
# Never: sees a control character (Storm::Settings admits printable ASCII alone).
function storm::json(Variant[Integer, Float, Boolean, String, Array] $value) >> String {
  case $value {
    String:  { "\"${regsubst($value, '(["\\\\])', '\\\\\\1', 'G')}\"" }
    Array:   { "[${$value.map |$item| { storm::json($item) }.join(', ')}]" }
    default: { "${value}" } # lint:ignore:only_variable_string
  }
}
