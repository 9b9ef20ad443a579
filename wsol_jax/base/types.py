"""Names of types that every floor writes."""

import ml_collections

# A config, or one of its sections: fields as configs/common.py and the methods' files list them.
Config = ml_collections.ConfigDict
