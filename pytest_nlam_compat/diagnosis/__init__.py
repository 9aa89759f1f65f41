"""Why a reference fails."""
