"""Every mistake that a caller can make, as one tree. The command line turns each into exit code 2.

OffersError
├── ContractError    the contract file is wrong
├── CatalogueError   the catalogue file is wrong, or does not fit the contract
├── CampaignError    the campaign file is wrong, or its constraints can't all hold
├── SourceError      the data can't be fetched, or is not what the contract says it is
├── DataError        the rows break the contract
├── GateError        the gate can't be asked, or the candidate did not pass it
├── BundleError      a model bundle is damaged, incomplete or foreign
├── LedgerError      the ledger is damaged, or its rules refuse an action
├── PolicyError      the policy can't rank what it is asked to rank
├── RequestError     a request to a service breaks the contract
│   └── RequestTooLarge  it holds more rows than one request may
├── ServiceError     a service can't be started
└── StorageError     a result can't be written or read
"""


class OffersError(Exception):
    """A mistake that the caller can correct; its message says what was expected, what arrived, where, what to do.

    `passes` is true for a fault that may be over in a moment, such as another machine that can't be reached.
    """

    def __init__(self, message: str = "", passes: bool = False) -> None:
        super().__init__(message)
        self.passes = passes


class ContractError(OffersError):
    """The contract file is wrong; the message names line and key."""


class CatalogueError(OffersError):
    """The catalogue file is wrong, or does not fit the contract; the message names line and key."""


class CampaignError(OffersError):
    """The campaign file is wrong or names an attribute that no offer has, or its constraints can't all hold."""


class SourceError(OffersError):
    """The data can't be fetched, or its checksum or form is not the declared one."""


class DataError(OffersError):
    """The rows break the contract."""


class GateError(OffersError):
    """The gate can't be asked, or the candidate did not pass it."""


class BundleError(OffersError):
    """A model bundle is damaged, incomplete, or made by libraries that score differently."""


class LedgerError(OffersError):
    """The ledger is not valid, or the actor lacks the right; the message names the entry, the release or the key."""


class PolicyError(OffersError):
    """The policy can't rank: a column or a propensity is missing, an offer is unknown, or k is 0."""


class RequestError(OffersError):
    """A request to a service breaks the contract; the message names the field, what was expected, what arrived."""


class RequestTooLarge(RequestError):  # noqa: N818
    """A request has more rows or more bytes than are allowed."""


class ServiceError(OffersError):
    """A service can't be started or reached: a port is taken, an address is not this machine's, nothing answers."""


class StorageError(OffersError):
    """A result can't be written or read: the disk is full, permission is missing, the store can't be reached."""
